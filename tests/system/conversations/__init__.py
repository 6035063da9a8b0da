"""Conversations with agents, whole: whatever goes wrong in them, each message, decision and result counts once."""
