"""Files, threads, devices, memory, random streams: nothing here knows of distillation."""
