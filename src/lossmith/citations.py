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
    "rudin1992": (
        "article",
        "Rudin, Leonid I. and Osher, Stanley and Fatemi, Emad",
        "Nonlinear total variation based noise removal algorithms",
        1992,
        "Physica D",
    ),
    "simonyan2015": (
        "inproceedings",
        "Simonyan, Karen and Zisserman, Andrew",
        "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        2015,
        "ICLR",
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
    "zhang2018": (
        "inproceedings",
        "Zhang, Richard and Isola, Phillip and Efros, Alexei A. and Shechtman, Eli and Wang, Oliver",
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        2018,
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
