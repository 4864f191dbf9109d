"""The API under `/api/v1`: what staff may do, for programs. The answers are those of `service.telling`."""
