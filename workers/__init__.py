"""The engine room: claims stages, runs pipelines in confined children. Imports orchestrator; nobody imports it."""
