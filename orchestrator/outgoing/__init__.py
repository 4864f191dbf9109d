"""Carries notices to their receivers: webhooks and e-mail."""
