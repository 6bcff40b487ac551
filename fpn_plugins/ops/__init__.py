"""Operations whose fastest form depends on where they run, each behind one function, and how the package is traced."""
