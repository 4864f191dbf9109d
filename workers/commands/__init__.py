"""Commands that need the engine room, loaded only when named."""
