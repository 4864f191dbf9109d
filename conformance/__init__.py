"""What Tendon promises its DICOM peers, written down, and the evidence for it."""
