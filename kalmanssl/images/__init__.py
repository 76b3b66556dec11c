"""Pairs of image views: augmentations, encoders, training and features."""

from kalmanssl.images._augmentations import AUGMENTATIONS as AUGMENTATIONS
from kalmanssl.images._augmentations import Augmentation as Augmentation
from kalmanssl.images._augmentations import PairAugmentation as PairAugmentation
from kalmanssl.images._encoders import ResNet18 as ResNet18
from kalmanssl.images._encoders import SmallConvEncoder as SmallConvEncoder
from kalmanssl.images._fit import fit_images as fit_images
from kalmanssl.images._fit import image_features as image_features
