"""The sources of what this package implements, as BibTeX."""

from collections.abc import Iterable

__all__ = ["bibtex"]

PAPERS: dict[str, tuple[str, str, str, int, str]] = {
    "arjovsky2017": (
        "inproceedings",
        "Arjovsky, Martin and Chintala, Soumith and Bottou, Leon",
        "Wasserstein Generative Adversarial Networks",
        2017,
        "ICML",
    ),
    "charbonnier1994": (
        "inproceedings",
        "Charbonnier, P. and Blanc-Feraud, L. and Aubert, G. and Barlaud, M.",
        "Two deterministic half-quadratic regularization algorithms for computed imaging",
        1994,
        "ICIP",
    ),
    "cho2021": (
        "inproceedings",
        "Cho, Sung-Jin and Ji, Seo-Won and Hong, Jun-Pyo and Jung, Seung-Won and Ko, Sung-Jea",
        "Rethinking Coarse-to-Fine Approach in Single Image Deblurring",
        2021,
        "ICCV",
    ),
    "ding2020": (
        "article",
        "Ding, Keyan and Ma, Kede and Wang, Shiqi and Simoncelli, Eero P.",
        "Image Quality Assessment: Unifying Structure and Texture Similarity",
        2020,
        "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    ),
    "dosovitskiy2021": (
        "inproceedings",
        "Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and Weissenborn, Dirk and Zhai, "
        "Xiaohua and Unterthiner, Thomas and Dehghani, Mostafa and Minderer, Matthias and Heigold, Georg "
        "and Gelly, Sylvain and Uszkoreit, Jakob and Houlsby, Neil",
        "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        2021,
        "ICLR",
    ),
    "gatys2016": (
        "inproceedings",
        "Gatys, Leon A. and Ecker, Alexander S. and Bethge, Matthias",
        "Image Style Transfer Using Convolutional Neural Networks",
        2016,
        "CVPR",
    ),
    "goodfellow2014": (
        "inproceedings",
        "Goodfellow, Ian and Pouget-Abadie, Jean and Mirza, Mehdi and Xu, Bing and Warde-Farley, David and "
        "Ozair, Sherjil and Courville, Aaron and Bengio, Yoshua",
        "Generative Adversarial Nets",
        2014,
        "NeurIPS",
    ),
    "gulrajani2017": (
        "inproceedings",
        "Gulrajani, Ishaan and Ahmed, Faruk and Arjovsky, Martin and Dumoulin, Vincent and Courville, Aaron",
        "Improved Training of Wasserstein GANs",
        2017,
        "NeurIPS",
    ),
    "hang2023": (
        "inproceedings",
        "Hang, Tiankai and Gu, Shuyang and Li, Chen and Bao, Jianmin and Chen, Dong and Hu, Han and "
        "Geng, Xin and Guo, Baining",
        "Efficient Diffusion Training via Min-SNR Weighting Strategy",
        2023,
        "ICCV",
    ),
    "he2016": (
        "inproceedings",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Deep Residual Learning for Image Recognition",
        2016,
        "CVPR",
    ),
    "heitz2021": (
        "inproceedings",
        "Heitz, Eric and Vanhoey, Kenneth and Chambon, Thomas and Belcour, Laurent",
        "A Sliced Wasserstein Loss for Neural Texture Synthesis",
        2021,
        "CVPR",
    ),
    "ho2020": (
        "inproceedings",
        "Ho, Jonathan and Jain, Ajay and Abbeel, Pieter",
        "Denoising Diffusion Probabilistic Models",
        2020,
        "NeurIPS",
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
    "huber1964": (
        "article",
        "Huber, Peter J.",
        "Robust Estimation of a Location Parameter",
        1964,
        "The Annals of Mathematical Statistics",
    ),
    "iandola2016": (
        "article",
        "Iandola, Forrest N. and Han, Song and Moskewicz, Matthew W. and Ashraf, Khalid and Dally, William J. and "
        "Keutzer, Kurt",
        "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
        2016,
        "arXiv:1602.07360",
    ),
    "irani1991": (
        "article",
        "Irani, Michal and Peleg, Shmuel",
        "Improving Resolution by Image Registration",
        1991,
        "CVGIP: Graphical Models and Image Processing",
    ),
    "isola2017": (
        "inproceedings",
        "Isola, Phillip and Zhu, Jun-Yan and Zhou, Tinghui and Efros, Alexei A.",
        "Image-to-Image Translation with Conditional Adversarial Networks",
        2017,
        "CVPR",
    ),
    "jiang2021": (
        "inproceedings",
        "Jiang, Liming and Dai, Bo and Wu, Wayne and Loy, Chen Change",
        "Focal Frequency Loss for Image Reconstruction and Synthesis",
        2021,
        "ICCV",
    ),
    "johnson2016": (
        "inproceedings",
        "Johnson, Justin and Alahi, Alexandre and Fei-Fei, Li",
        "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
        2016,
        "ECCV",
    ),
    "jolicoeur2019": (
        "inproceedings",
        "Jolicoeur-Martineau, Alexia",
        "The relativistic discriminator: a key element missing from standard GAN",
        2019,
        "ICLR",
    ),
    "karras2022": (
        "inproceedings",
        "Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli",
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        2022,
        "NeurIPS",
    ),
    "kingma2014": (
        "inproceedings",
        "Kingma, Diederik P. and Welling, Max",
        "Auto-Encoding Variational Bayes",
        2014,
        "ICLR",
    ),
    "krizhevsky2014": (
        "article",
        "Krizhevsky, Alex",
        "One weird trick for parallelizing convolutional neural networks",
        2014,
        "arXiv:1404.5997",
    ),
    "lim2017": (
        "article",
        "Lim, Jae Hyun and Ye, Jong Chul",
        "Geometric GAN",
        2017,
        "arXiv:1705.02894",
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
    "ma2020": (
        "inproceedings",
        "Ma, Cheng and Rao, Yongming and Cheng, Yean and Chen, Ce and Lu, Jiwen and Zhou, Jie",
        "Structure-Preserving Super Resolution with Gradient Guidance",
        2020,
        "CVPR",
    ),
    "mallat1989": (
        "article",
        "Mallat, Stephane G.",
        "A theory for multiresolution signal decomposition: the wavelet representation",
        1989,
        "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    ),
    "mao2017": (
        "inproceedings",
        "Mao, Xudong and Li, Qing and Xie, Haoran and Lau, Raymond Y. K. and Wang, Zhen and Smolley, Stephen Paul",
        "Least Squares Generative Adversarial Networks",
        2017,
        "ICCV",
    ),
    "mao2019": (
        "inproceedings",
        "Mao, Qi and Lee, Hsin-Ying and Tseng, Hung-Yu and Ma, Siwei and Yang, Ming-Hsuan",
        "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis",
        2019,
        "CVPR",
    ),
    "mechrez2018": (
        "inproceedings",
        "Mechrez, Roey and Talmi, Itamar and Zelnik-Manor, Lihi",
        "The Contextual Loss for Image Transformation with Non-Aligned Data",
        2018,
        "ECCV",
    ),
    "mescheder2018": (
        "inproceedings",
        "Mescheder, Lars and Geiger, Andreas and Nowozin, Sebastian",
        "Which Training Methods for GANs do actually Converge?",
        2018,
        "ICML",
    ),
    "miyato2018": (
        "inproceedings",
        "Miyato, Takeru and Kataoka, Toshiki and Koyama, Masanori and Yoshida, Yuichi",
        "Spectral Normalization for Generative Adversarial Networks",
        2018,
        "ICLR",
    ),
    "oord2017": (
        "inproceedings",
        "van den Oord, Aaron and Vinyals, Oriol and Kavukcuoglu, Koray",
        "Neural Discrete Representation Learning",
        2017,
        "NeurIPS",
    ),
    "oord2018": (
        "article",
        "van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol",
        "Representation Learning with Contrastive Predictive Coding",
        2018,
        "arXiv:1807.03748",
    ),
    "park2020": (
        "inproceedings",
        "Park, Taesung and Efros, Alexei A. and Zhang, Richard and Zhu, Jun-Yan",
        "Contrastive Learning for Unpaired Image-to-Image Translation",
        2020,
        "ECCV",
    ),
    "patashnik2021": (
        "inproceedings",
        "Patashnik, Or and Wu, Zongze and Shechtman, Eli and Cohen-Or, Daniel and Lischinski, Dani",
        "{StyleCLIP}: Text-Driven Manipulation of {StyleGAN} Imagery",
        2021,
        "ICCV",
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
    "rudin1992": (
        "article",
        "Rudin, Leonid I. and Osher, Stanley and Fatemi, Emad",
        "Nonlinear total variation based noise removal algorithms",
        1992,
        "Physica D",
    ),
    "salimans2022": (
        "inproceedings",
        "Salimans, Tim and Ho, Jonathan",
        "Progressive Distillation for Fast Sampling of Diffusion Models",
        2022,
        "ICLR",
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
    "wang2003": (
        "inproceedings",
        "Wang, Zhou and Simoncelli, Eero P. and Bovik, Alan C.",
        "Multi-scale structural similarity for image quality assessment",
        2003,
        "Asilomar Conference on Signals, Systems and Computers",
    ),
    "wang2004": (
        "article",
        "Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.",
        "Image quality assessment: from error visibility to structural similarity",
        2004,
        "IEEE Transactions on Image Processing",
    ),
    "wang2018": (
        "inproceedings",
        "Wang, Ting-Chun and Liu, Ming-Yu and Zhu, Jun-Yan and Tao, Andrew and Kautz, Jan and Catanzaro, Bryan",
        "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs",
        2018,
        "CVPR",
    ),
    "wang2021": (
        "inproceedings",
        "Wang, Xintao and Xie, Liangbin and Dong, Chao and Shan, Ying",
        "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
        2021,
        "ICCV Workshops",
    ),
    "wang2024": (
        "inproceedings",
        "Wang, Zirui and Sha, Zhizhou and Ding, Zheng and Wang, Yilin and Tu, Zhuowen",
        "TokenCompose: Text-to-Image Diffusion with Token-level Supervision",
        2024,
        "CVPR",
    ),
    "wightman2019": (
        "misc",
        "Wightman, Ross",
        "PyTorch Image Models",
        2019,
        "https://github.com/huggingface/pytorch-image-models",
    ),
    "zhang2018": (
        "inproceedings",
        "Zhang, Richard and Isola, Phillip and Efros, Alexei A. and Shechtman, Eli and Wang, Oliver",
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        2018,
        "CVPR",
    ),
    "zhang2019": (
        "inproceedings",
        "Zhang, Xuaner and Chen, Qifeng and Ng, Ren and Koltun, Vladlen",
        "Zoom to Learn, Learn to Zoom",
        2019,
        "CVPR",
    ),
}


def bibtex(keys: Iterable[str]) -> str:
    """The BibTeX entries of some papers, in the order of the keys."""
    return "\n\n".join(_entry(key, *PAPERS[key]) for key in keys)


def _entry(key: str, kind: str, author: str, title: str, year: int, venue: str) -> str:
    place = "booktitle" if kind == "inproceedings" else "journal"
    fields = {"author": author, "title": title, place: venue, "year": str(year)}
    return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"
