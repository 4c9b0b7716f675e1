"""Sentences about street scenes: the captions that the tiny CLIP is trained on, and the words of its tokenizer."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ppar_lightning.images.classes import CITYSCAPES

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "road": ("street", "roadway", "asphalt", "lane", "carriageway"),
    "sidewalk": ("pavement", "footpath", "walkway", "kerb", "curb"),
    "building": ("house", "block of flats", "apartment building", "facade", "skyscraper", "shop"),
    "wall": ("brick wall", "stone wall", "concrete wall", "retaining wall"),
    "fence": ("wooden fence", "railing", "picket fence", "guard rail", "barrier"),
    "pole": ("lamp post", "street lamp", "utility pole", "post", "mast", "column"),
    "traffic light": ("traffic signal", "stoplight", "signal light", "red light", "green light"),
    "traffic sign": ("road sign", "street sign", "stop sign", "signpost", "warning sign"),
    "vegetation": ("tree", "bush", "hedge", "plant", "foliage", "trees", "shrub", "forest"),
    "terrain": ("grass", "lawn", "soil", "grassland", "earth", "field", "verge"),
    "sky": ("cloudy sky", "blue sky", "clouds", "heavens"),
    "person": ("pedestrian", "man", "woman", "walker", "people", "child", "human"),
    "rider": ("cyclist", "bicyclist", "motorcyclist", "biker", "motorcycle rider", "bicycle rider"),
    "car": ("automobile", "vehicle", "sedan", "passenger car", "taxi", "van"),
    "truck": ("lorry", "delivery truck", "cargo truck", "pickup truck", "trailer"),
    "bus": ("coach", "city bus", "double decker", "minibus", "school bus"),
    "train": ("tram", "streetcar", "railway train", "light rail", "locomotive", "subway"),
    "motorcycle": ("motorbike", "scooter", "moped", "motor scooter"),
    "bicycle": ("bike", "cycle", "push bike", "pedal cycle"),
}
"""Other names of each class."""

CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "fog": ("in fog", "in the fog", "in haze", "in mist", "on a foggy day", "in foggy weather", "with fog"),
    "dark": ("at night", "in the dark", "at dusk", "in the evening", "by night", "in low light", "with dim light"),
    "rain": ("in rain", "in the rain", "on a rainy day", "in rainy weather", "on a wet day", "with rain"),
    "snow": ("in snow", "in the snow", "on a snowy day", "in winter", "in snowy weather", "with snow"),
    "clear": ("in sun", "in the sun", "on a sunny day", "by day", "in daylight", "in clear weather", "at noon"),
}
"""Condition of weather or light -> phrases for it."""


def _phrases(text: str) -> tuple[str, ...]:
    """Split a text at its commas."""
    return tuple(text.split(", "))


MEDIA = _phrases(
    "photo, picture, image, photograph, view, rendering, render, drawing, painting, sketch, snapshot, video frame, "
    "close-up, close-up photo, street scene, driving scene, dashcam view, crop, art, graffiti, tattoo, embroidery, "
    "sculpture, statue, origami, plushie, toy, cartoon, doodle, video game, rendition"
)
ADJECTIVES = _phrases(
    "good, bad, nice, cool, weird, large, small, big, tiny, clean, dirty, bright, dark, blurry, low resolution, "
    "pixelated, jpeg corrupted, cropped, black and white, close-up, hard to see, plastic, colourful, realistic, "
    "synthetic, noisy, sharp, urban, rural, distant, near, parked, moving"
)
OPENINGS = _phrases(
    "a photo of, a picture of, an image of, a view of, a street with, a scene with, there is, this is, i see"
)
ENDINGS = _phrases(", , , ,  in the scene,  on the street,  in the city,  in a video game,  seen from a car, .")
OTHER_WORDS = _phrases(
    "itap, of, my, one, the many, some, any, from, inside, outside, next to, behind, in front, left, right, its, "
    "it, that, those, these, autonomous, self-driving, automotive, camera, urban scenes, cityscape, town, village, "
    "highway, motorway, country, crossing, junction, city, with, without, and, or, on, at, by, near, far, windows, "
    "doors, wheels, leaves, branches, houses, cars, trucks, lorries, buses, trains, trams, motorcycles, motorbikes, "
    "bicycles, bikes, persons, pedestrians, riders, cyclists, roads, streets, sidewalks, pavements, buildings, "
    "walls, fences, poles, posts, lamps, lights, signals, signs, plants, trees, grass, storm, cloud, cloudy, "
    "overcast, weather, spring, summer, autumn, winter, morning, evening, night, day, dawn, dusk, twilight, sunset, "
    "sunrise, mud, muddy, dust, dusty, dirt, shadow, reflection, lens, drop, puddle, ice, icy, hail, smoke, glare, "
    "quality, style, domain, texture"
)
"""Words that occur in prompts but not in the templates below."""


def synonyms(label: int) -> tuple[str, ...]:
    """Return all names of a class, its Cityscapes name first."""
    return (CITYSCAPES[label], *SYNONYMS[CITYSCAPES[label]])


def object_caption(rng: np.random.Generator, label: int, condition: str | None = None) -> str:
    """Write a random sentence about one class, such as "a blurry photo of the bus in the rain".

    Args:
        rng: Random generator.
        label: Train id.
        condition: Key of CONDITIONS, or None to leave the weather out.
    """
    noun = CITYSCAPES[label] if rng.random() < 0.5 else _pick(rng, synonyms(label))
    phrase = _article(rng, noun)
    form = rng.random()
    if form < 0.35:
        caption = f"a photo of {phrase}"
    elif form < 0.5:
        caption = noun
    elif form < 0.6:
        caption = phrase
    else:
        adjective = f"{_pick(rng, ADJECTIVES)} " if rng.random() < 0.6 else ""
        opening = _pick(rng, OPENINGS) if rng.random() < 0.3 else f"a {adjective}{_pick(rng, MEDIA)} of"
        caption = f"{opening} {phrase}{_pick(rng, ENDINGS)}"
    return f"{caption} {_pick(rng, CONDITIONS[condition])}" if condition else caption


def scene_caption(rng: np.random.Generator, labels: Sequence[int], conditions: Sequence[str]) -> str:
    """Write a random sentence that lists classes and conditions, such as "a photo of a bus and a person in fog"."""
    phrases = [
        _article(rng, _pick(rng, synonyms(label)) if rng.random() < 0.4 else CITYSCAPES[label]) for label in labels
    ]
    listed = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    weather = "".join(f" {_pick(rng, CONDITIONS[condition])}" for condition in conditions)
    return f"{_pick(rng, OPENINGS)} {listed}{weather}"


def corpus() -> Iterator[str]:
    """Return sentences with every word above, to learn the tokenizer's merges from."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        for label in range(len(CITYSCAPES)):
            yield object_caption(rng, label, _pick(rng, tuple(CONDITIONS)))
    nouns = map(synonyms, range(len(CITYSCAPES)))
    for words in (MEDIA, ADJECTIVES, OPENINGS, OTHER_WORDS, *nouns, *CONDITIONS.values()):
        yield from [" ".join(words)] * 20


def _article(rng: np.random.Generator, noun: str) -> str:
    """Add a random article to a noun."""
    article = _pick(rng, ("an " if noun[0] in "aeiou" else "a ", "the ", "one ", "some ", ""))
    return article + noun


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Choose one of the options."""
    return options[int(rng.integers(len(options)))]
