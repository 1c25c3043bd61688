"""Export of networks to ONNX and to torch.export's .pt2, each compared with the network."""

from lossmith.export.files import ExportReport, export_network

__all__ = ["ExportReport", "export_network"]
