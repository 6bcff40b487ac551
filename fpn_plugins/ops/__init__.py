"""Operations that run in the fastest form for a device and mode, and helpers for tracing."""
