"""Methods: the terms of the student's objective, their grammar, the objective."""
