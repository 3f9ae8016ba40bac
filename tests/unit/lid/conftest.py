"""Fixtures: a tiny corpus of our own sentences in four languages, and models trained on it."""

from pathlib import Path

import pytest

SENTENCES = {
    "eng_Latn": [
        "The library opens at nine, and everyone is welcome.",
        "We walked along the river until the rain began.",
        "Please close the window before you leave the room.",
        "My brother has bought a small house near the sea.",
        "Nobody knows what the weather will be like tomorrow.",
        "She reads the newspaper every morning with her coffee.",
        "The children played in the garden all afternoon.",
        "This road leads through the forest to the old mill.",
        "He could not find the key that he had put on the table.",
        "They will come back when the work is finished.",
    ],
    "fra_Latn": [
        "La bibliothèque ouvre à neuf heures et tout le monde est bienvenu.",
        "Nous avons marché le long de la rivière jusqu'à la pluie.",
        "Fermez la fenêtre avant de quitter la pièce, s'il vous plaît.",
        "Mon frère a acheté une petite maison près de la mer.",
        "Personne ne sait quel temps il fera demain.",
        "Elle lit le journal chaque matin avec son café.",
        "Les enfants ont joué dans le jardin tout l'après-midi.",
        "Cette route mène au vieux moulin à travers la forêt.",
        "Il ne trouvait pas la clé qu'il avait posée sur la table.",
        "Ils reviendront quand le travail sera terminé.",
    ],
    "deu_Latn": [
        "Die Bibliothek öffnet um neun, und alle sind willkommen.",
        "Wir gingen am Fluss entlang, bis der Regen begann.",
        "Bitte schließen Sie das Fenster, bevor Sie den Raum verlassen.",
        "Mein Bruder hat ein kleines Haus in der Nähe des Meeres gekauft.",
        "Niemand weiß, wie das Wetter morgen sein wird.",
        "Sie liest jeden Morgen die Zeitung zu ihrem Kaffee.",
        "Die Kinder spielten den ganzen Nachmittag im Garten.",
        "Diese Straße führt durch den Wald zur alten Mühle.",
        "Er fand den Schlüssel nicht, den er auf den Tisch gelegt hatte.",
        "Sie kommen zurück, wenn die Arbeit getan ist.",
    ],
    "rus_Cyrl": [
        "Библиотека открывается в девять, и мы рады каждому.",
        "Мы шли вдоль реки, пока не начался дождь.",
        "Пожалуйста, закройте окно, прежде чем выйти из комнаты.",
        "Мой брат купил маленький дом недалеко от моря.",
        "Никто не знает, какая завтра будет погода.",
        "Она каждое утро читает газету за чашкой кофе.",
        "Дети весь день играли в саду.",
        "Эта дорога ведёт через лес к старой мельнице.",
        "Он не мог найти ключ, который положил на стол.",
        "Они вернутся, когда работа будет закончена.",
    ],
}
OUT_OF_SET = {
    "ina__ina": "Le bibliotheca aperi al novem horas e omnes es benvenite in le citate number",
    "vol__vol": "Bukemaziläk maifon düp zülid, e valans binons vekömik in zif at nüm",
    "epo__xxx": "Nekonataj vortoj sen signifo staras en tiu linio de la provo",
    "tlh__tlh": "naDev paq qach poSmoHlu Hut rep je Hoch ghom Dochvam mI",
}


@pytest.fixture(scope="session")
def sentences() -> dict[str, list[str]]:
    return SENTENCES


@pytest.fixture(scope="session")
def corpora_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an aligned corpus, a keyed corpus, out-of-set text and a test set."""
    root = tmp_path_factory.mktemp("corpora")
    seed, udhr, out_of_set, test = (
        root / name for name in ("nllb_seed", "udhr", "udhr_other", "test")
    )
    for folder in (seed, udhr, out_of_set, test):
        folder.mkdir()
    for code, lines in SENTENCES.items():
        (seed / code).write_text("\n".join(lines * 2) + "\n", encoding="utf-8")
        rows = [f"{n}\t{line} {lines[n - 1]}" for n, line in enumerate(lines)]
        (udhr / f"{code}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (test / f"{code}.txt").write_text(lines[0].upper() + "\n", encoding="utf-8")
    for name, line in OUT_OF_SET.items():
        rows = [f"{n}\t{line} {'x' * n} {name[:3]}{n % 7}" for n in range(60)]
        (out_of_set / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def model_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a tiny fastText classifier as `.bin` and as pruned, quantised `.ftz`."""
    import fasttext

    from nllb.languages.normalization import normalize_for_detection

    folder = tmp_path_factory.mktemp("lid-model")
    text = folder / "train.txt"
    text.write_text(
        "".join(
            f"__label__{code} {normalize_for_detection(line)}\n"
            for code, lines in SENTENCES.items()
            for line in lines * 30
        ),
        encoding="utf-8",
    )
    model = fasttext.train_supervised(
        str(text), dim=8, epoch=20, lr=0.5, minn=2, maxn=4, bucket=2000, thread=1, verbose=0
    )
    paths = {"bin": folder / "tiny.bin", "ftz": folder / "tiny.ftz"}
    model.save_model(str(paths["bin"]))
    model.quantize(input=str(text), cutoff=900, retrain=True, qnorm=True, thread=1)
    model.save_model(str(paths["ftz"]))
    return paths
