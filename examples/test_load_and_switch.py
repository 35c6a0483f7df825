"""Block 12 of the quick start: a test of one's own, over made-up models."""

from noa.testing import FakeManager


async def test_should_load_and_switch_models() -> None:
    manager = FakeManager("openai:gpt-4", "openai:gpt-3.5-turbo")
    await manager.initialize()

    key1 = await manager.load_model("openai:gpt-4")
    assert manager.current_model is not None
    assert manager.current_model.key == key1

    key2 = await manager.load_model("openai:gpt-3.5-turbo")

    await manager.switch_model(key2)
    assert manager.current_model is not None
    assert manager.current_model.key == key2

    await manager.destroy()
