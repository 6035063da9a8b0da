"""The test doubles of this suite: a sandbox that can fail, and a clock that a test advances."""
