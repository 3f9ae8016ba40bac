"""The protocols of the server, one module each."""
