"""Learn features of images without labels and test how well a linear classifier can use them.

    python examples/images_without_labels.py

The data are scikit-learn's digits of 8 by 8 pixels. The two views of a digit are slightly rotated, shifted and noisy
copies. Training makes the latents of both views similar while all latents together cover the sphere. To use another
method, replace `recipes.sphere_kde` by another function of `kalmanssl.recipes`. Takes less than a minute and saves
images_without_labels.png.
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

train_features, test_features = (image_features(encoder, images, augmentation) for images in (train, test))
score = linear_probe(train_features, train.labels, test_features, test.labels)
print(f"a linear classifier on the features is correct for {100 * score.top1:.1f} % of the test digits")

figure = Figure(figsize=(9, 4.5), layout="constrained")
names = np.array(test.classes)[test.labels]
for axes, (title, z) in zip(
    figure.subplots(1, 2), (("random weights", before), ("trained", test_features)), strict=True
):
    plot_tsne(z, names, ax=axes)
    axes.set_title(title)
figure.savefig("images_without_labels.png", dpi=120)
