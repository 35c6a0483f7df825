"""What a failed attempt says: whether the request may go on elsewhere, and whether the upstream is at fault. Pure."""

from __future__ import annotations

from enum import StrEnum

from noa.errors import (
    AIProviderError,
    ContextLengthError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ProviderConnectionError,
    ProviderResponseError,
    RateLimitError,
    ValidationError,
)


class Fault(StrEnum):
    """Why an attempt failed.

    ``unsent`` requests provably never arrived; ``limited`` (429) and ``overloaded`` (503, 529) ones were refused.
    ``failed`` ones may have been worked on (500, 502, 504, a stall, a break), ``denied`` ones are the caller's mistake
    or a refused key, and ``unadmitted`` ones found no model to go to. ``cut`` ones were ended by our own doing.
    """

    UNSENT = "unsent"
    LIMITED = "limited"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    DENIED = "denied"
    CUT = "cut"
    UNADMITTED = "unadmitted"


#: The faults after which nobody has worked on the request, so that doing it elsewhere does nothing twice.
NOT_TAKEN = frozenset({Fault.UNSENT, Fault.LIMITED, Fault.OVERLOADED, Fault.UNADMITTED})

#: What is noted of a request whose caller went away.
CLIENT_CANCELLED = "CLIENT_CANCELLED"
#: Ends that are neither a success nor the model's failure: they say something of the caller, and change no figure.
NOT_THE_MODELS_FAULT = frozenset(
    {CLIENT_CANCELLED, ValidationError.code, ContextLengthError.code, PayloadTooLargeError.code}
)

#: The statuses by which services say that they did not take a request because they have too much to do.
OVERLOADED_STATUSES = frozenset({503, 529})


def judge(error: AIProviderError) -> Fault:
    """The fault of an attempt that reached, or tried to reach, an upstream."""
    match error:
        case RateLimitError():
            return Fault.LIMITED
        case ProviderConnectionError() if error.details.get("sent") is False:
            return Fault.UNSENT
        case ModelUnavailableError():
            refused = error.details.get("upstream_status") in OVERLOADED_STATUSES
            return Fault.OVERLOADED if refused else Fault.CUT
        case ProviderConnectionError() | ProviderResponseError():
            return Fault.FAILED
        case _:
            return Fault.DENIED


def judge_admission(error: AIProviderError) -> Fault:
    """The fault of an attempt for which there was no model to use: nothing of it was sent."""
    return Fault.DENIED if isinstance(error, ValidationError) else Fault.UNADMITTED
