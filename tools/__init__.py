"""Tools over MCP: the client that keeps servers, and the bundled server."""
