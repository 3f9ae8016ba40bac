"""The common directions of an encoder's sentence vectors, which are removed before comparison.

The vectors of multilingual-e5-small are close together: their cosines are between 0.7 and 1, for
unrelated sentences too, and how close depends on language and domain. A common mean and a few
common directions cause most of this. Without them, cosines of translations and of unrelated
sentences are further apart, and one threshold fits more languages.

Source: Mu and Viswanath, All-but-the-Top, ICLR 2018. Three directions were the best choice on
held-out pairs of 22 languages.

Shapes: N sentences, D dimension of a vector, K common directions.
"""

from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor
from torch.nn import functional

NUM_DIRECTIONS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceSpace:
    """The mean and the most common directions of sentence vectors."""

    mean_D: Tensor
    """The mean vector."""
    directions_KD: Tensor
    """The common directions, orthonormal."""

    @classmethod
    def fit(cls, vectors_ND: Tensor, num_directions: int = NUM_DIRECTIONS) -> Self:
        """Return the space of sample vectors: their mean and first principal components."""
        mean_D = vectors_ND.mean(0)
        _, components_DD = torch.linalg.eigh((vectors_ND - mean_D).T.double().cov())
        directions_KD = components_DD[:, -num_directions:].T.flip(0).float()
        # Without this, the sign of a component would depend on the linear algebra library.
        largest_K = directions_KD.abs().argmax(1, keepdim=True)
        return cls(
            mean_D=mean_D, directions_KD=directions_KD * directions_KD.gather(1, largest_K).sign()
        )

    def remove_from(self, vectors_ND: Tensor) -> Tensor:
        """Return vectors of length 1 without the mean and the common directions."""
        centred_ND = vectors_ND - self.mean_D
        rest_ND = centred_ND - centred_ND @ self.directions_KD.T @ self.directions_KD
        return functional.normalize(rest_ND)
