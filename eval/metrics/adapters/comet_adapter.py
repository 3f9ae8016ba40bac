"""COMET (`unbabel-comet`) behind the protocol of `eval.metrics.neural`.

Run by `nllb eval score --neural comet --neural-model CHECKPOINT`, if need be in another environment
(`--neural-python PATH`). The checkpoint is a local `.ckpt` file; nothing is downloaded.
"""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BATCH_SIZE = 16
# Languages of XLM-R, the encoder of all published COMET models, as FLORES-200 prefixes.
LANGUAGES = set(
    "afr amh arb asm azj bel bul ben bos cat ces cym dan deu ell eng epo spa est eus pes fin fra "
    "gle gla glg guj hau heb hin hrv hun hye ind isl ita jpn jav kat kaz khm kan kor kmr kir lao "
    "lit lvs plt mkd mal khk mar zsm mya npi nld nob nno gaz ory pan pol pbt por ron rus san snd "
    "sin slk slv som als srp sun swe swh tam tel tha tgl tur uig ukr urd uzn vie xho ydd "
    "zho".split()
)
# Names with these words denote published weights with a non-commercial licence.
NON_COMMERCIAL = ("xcomet", "kiwi")


def main() -> None:
    """Report the metric's identity, then one score per sentence."""
    head = json.loads(sys.stdin.readline())
    if not head.get("model"):
        raise SystemExit("COMET needs a local checkpoint: --neural-model FILE.ckpt")
    path = Path(head["model"])
    try:
        installed = version("unbabel-comet")
    except PackageNotFoundError:
        installed = "unknown"
    name = next((part for part in reversed(path.parts) if "comet" in part.lower()), path.stem)
    restricted = any(word in str(path).lower() for word in NON_COMMERCIAL)
    answer(
        name=name.removesuffix(".ckpt"),
        version=installed,
        licence="non-commercial (CC BY-NC-SA 4.0)" if restricted else "see the model card",
        supported=head["target"][:3] in LANGUAGES and head["source"][:3] in LANGUAGES,
        higher_is_better=True,
    )
    items = [json.loads(line) for line in sys.stdin]
    if not items:
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # The package prints to standard output, which belongs to the protocol.
    real, sys.stdout = sys.stdout, sys.stderr
    from comet import load_from_checkpoint  # type: ignore[import-not-found]

    found = load_from_checkpoint(str(path)).predict(
        items, batch_size=BATCH_SIZE, gpus=_num_gpus(), progress_bar=False
    )
    sys.stdout = real
    for score in found["scores"] if isinstance(found, dict) else found.scores:
        answer(score=float(score))


def _num_gpus() -> int:
    try:
        import torch
    except ImportError:
        return 0
    return 1 if torch.cuda.is_available() else 0


def answer(**values: object) -> None:
    """Write one JSON line."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
