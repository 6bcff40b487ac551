"""Operations whose fastest form depends on device and mode, each behind one function, and helpers for tracing."""
