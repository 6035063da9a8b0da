"""The hosts that start this server: where their configuration is, and how it is written, found and checked."""
