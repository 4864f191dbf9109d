"""Features of a region as the IBSI defines them (Zwanenburg et al., Radiology 2020)."""
