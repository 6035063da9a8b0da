"""What the server offers beyond the core of the protocol, to clients that declare that they know it."""
