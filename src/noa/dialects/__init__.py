"""Pure codecs between the canonical conversation and a wire format."""
