"""Learn features of images without labels, and see what a linear model can read from them.

    python examples/images_without_labels.py

Scikit-learn's digits, 8 by 8 pixels. Two views of a digit, slightly turned, shifted and noisy, should get similar
latents, and all latents together should fill the sphere. Any other method of `kalmanssl.recipes` is one word away.
Takes about a minute and saves images_without_labels.png.
"""

import numpy as np
from matplotlib.figure import Figure

from kalmanssl import recipes
from kalmanssl.datasets import Images
from kalmanssl.images import PairAugmentation, SmallConvEncoder, fit_images, image_features
from kalmanssl.plotting import plot_tsne
from kalmanssl.probes import linear_probe

train, test = Images.digits("train"), Images.digits("test")
mean, std = train.moments()
augmentation = PairAugmentation("tiny", mean=mean, std=std)

recipe = recipes.sphere_kde(dim=64)
print(recipe)
encoder = SmallConvEncoder(channels=1, size=8, features=64, random_state=0)
model = recipe.build(encoder, encoder.n_features, random_state=0)
before = image_features(encoder, test, augmentation)
fit_images(model, train, augmentation, epochs=40)

features, new = (image_features(encoder, images, augmentation) for images in (train, test))
score = linear_probe(features, train.labels, new, test.labels)
print(f"a linear model on the features names {100 * score.top1:.1f} % of new digits")

figure = Figure(figsize=(9, 4.5), layout="constrained")
names = np.array(test.classes)[test.labels]
for place, (title, z) in zip(figure.subplots(1, 2), (("random weights", before), ("trained", new)), strict=True):
    plot_tsne(place, z, names)
    place.set_title(title)
figure.savefig("images_without_labels.png", dpi=120)
