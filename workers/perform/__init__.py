"""The stage's child: reads inputs, runs one stage of one pipeline, leaves files. Started by `consume` only.

The composition root of the child: the only place of the engine room that reads DICOM.
"""
