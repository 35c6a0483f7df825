"""The same manager in a script without asyncio.

OPENAI_API_KEY=… python examples/without_asyncio.py
"""

from noa import ModelManager


def main() -> None:
    """Load, ask, stream, switch."""
    with ModelManager.sync() as manager:
        manager.on("model-switched", lambda event: print("now in use:", event.data["current_model"]))
        manager.load_model("openai:gpt-4")
        print(manager.chat("Say hello.", max_tokens=60).text)
        with manager.use("openai:gpt-4") as model:
            for piece in model.stream("Count to five.", max_tokens=60):
                print(piece, end="")
        print()
        manager.switch_model("openai:gpt-3.5-turbo")


if __name__ == "__main__":
    main()
