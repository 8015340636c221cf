"""Files, threads, memory, random streams: what knows nothing of distillation."""
