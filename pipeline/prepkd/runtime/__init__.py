"""Files, threads, devices, memory and random streams, independent of distillation."""
