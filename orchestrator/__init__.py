"""Tendon's control plane: receives studies, decides, keeps the records, delivers. Never imports workers or models."""
