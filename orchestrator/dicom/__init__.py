"""DICOM in and out. The only package that imports pydicom, highdicom and pynetdicom."""
