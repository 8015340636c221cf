"""Distillation: students taught by cached or live teachers, their settings, their files."""
