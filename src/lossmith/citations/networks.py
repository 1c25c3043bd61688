"""Papers of pretrained networks."""

__all__ = ["PAPERS"]

PAPERS = {
    "dosovitskiy2021": (
        "inproceedings",
        "Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and Weissenborn, Dirk and Zhai, "
        "Xiaohua and Unterthiner, Thomas and Dehghani, Mostafa and Minderer, Matthias and Heigold, Georg "
        "and Gelly, Sylvain and Uszkoreit, Jakob and Houlsby, Neil",
        "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        2021,
        "ICLR",
    ),
    "he2016": (
        "inproceedings",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Deep Residual Learning for Image Recognition",
        2016,
        "CVPR",
    ),
    "howard2019": (
        "inproceedings",
        "Howard, Andrew and Sandler, Mark and Chu, Grace and Chen, Liang-Chieh and Chen, Bo and Tan, "
        "Mingxing and Wang, Weijun and Zhu, Yukun and Pang, Ruoming and Vasudevan, Vijay and Le, Quoc V. "
        "and Adam, Hartwig",
        "Searching for MobileNetV3",
        2019,
        "ICCV",
    ),
    "huang2017": (
        "inproceedings",
        "Huang, Gao and Liu, Zhuang and van der Maaten, Laurens and Weinberger, Kilian Q.",
        "Densely Connected Convolutional Networks",
        2017,
        "CVPR",
    ),
    "iandola2016": (
        "article",
        "Iandola, Forrest N. and Han, Song and Moskewicz, Matthew W. and Ashraf, Khalid and Dally, William J. and "
        "Keutzer, Kurt",
        "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
        2016,
        "arXiv:1602.07360",
    ),
    "krizhevsky2014": (
        "article",
        "Krizhevsky, Alex",
        "One weird trick for parallelizing convolutional neural networks",
        2014,
        "arXiv:1404.5997",
    ),
    "liu2021": (
        "inproceedings",
        "Liu, Ze and Lin, Yutong and Cao, Yue and Hu, Han and Wei, Yixuan and Zhang, Zheng and Lin, "
        "Stephen and Guo, Baining",
        "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        2021,
        "ICCV",
    ),
    "liu2022": (
        "inproceedings",
        "Liu, Zhuang and Mao, Hanzi and Wu, Chao-Yuan and Feichtenhofer, Christoph and Darrell, Trevor "
        "and Xie, Saining",
        "A ConvNet for the 2020s",
        2022,
        "CVPR",
    ),
    "radford2021": (
        "inproceedings",
        "Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel and "
        "Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and Clark, Jack and "
        "Krueger, Gretchen and Sutskever, Ilya",
        "Learning Transferable Visual Models From Natural Language Supervision",
        2021,
        "ICML",
    ),
    "simonyan2015": (
        "inproceedings",
        "Simonyan, Karen and Zisserman, Andrew",
        "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        2015,
        "ICLR",
    ),
    "szegedy2016": (
        "inproceedings",
        "Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jon and Wojna, Zbigniew",
        "Rethinking the Inception Architecture for Computer Vision",
        2016,
        "CVPR",
    ),
    "tan2019": (
        "inproceedings",
        "Tan, Mingxing and Le, Quoc V.",
        "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        2019,
        "ICML",
    ),
    "wightman2019": (
        "misc",
        "Wightman, Ross",
        "PyTorch Image Models",
        2019,
        "https://github.com/huggingface/pytorch-image-models",
    ),
}
