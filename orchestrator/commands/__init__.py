"""The `tendon` commands, one module each, loaded only when named."""
