"""The key of the model endpoint in all tests that name no other. Nothing that a server prints may have it."""

CANARY = "canary-0b5a-of-every-test"
