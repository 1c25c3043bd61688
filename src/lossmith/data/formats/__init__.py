"""Readers and writers of image files at their own depth and number of bands, one module per family of formats.

=================================== ================================================ ==========================
files                               samples                                          library
=================================== ================================================ ==========================
JPEG, WebP, BMP, 8-bit PNG and TIFF grey or RGB of 8 bits, alpha, palettes           Pillow
16-bit PNG                          grey by Pillow; colour or alpha by imagecodecs   Pillow, imagecodecs
TIFF                                integers and floats of 8 to 64 bits, any bands   tifffile, imagecodecs
.npy                                integers and floats                              NumPy
OpenEXR                             float16, float32, uint32, any bands              OpenEXR
DICOM                               one slice, rescaled to its units                 pydicom
=================================== ================================================ ==========================
"""
