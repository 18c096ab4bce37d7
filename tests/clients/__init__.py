"""Programs that use the server as the users of its clients do; tests/test_clients.py runs them."""
