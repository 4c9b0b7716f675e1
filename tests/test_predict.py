"""``ppar predict``: maps of a user's own pictures, by name and of their size; nothing is written over or dropped."""

import csv
import errno
import os
import re
import shutil
import signal
import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ranks import run_ranks
from test_cli import fit

from ppar_lightning import load_segmenter
from ppar_lightning.callbacks import prediction_writer
from ppar_lightning.callbacks.prediction_writer import PredictionWriter, read_map
from ppar_lightning.cli import main
from ppar_lightning.cli.words import spelt_out
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.own_pictures import PictureDataset, find
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.module import PPARModule

SIZES = {"a.jpg": (40, 60), "sub/b c.png": (33, 50), "sub/ü.png": (64, 32)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return fit(tmp_path_factory.mktemp("predict") / "run", "--trainer.max_steps", "2", "--model.ppar.enabled", "false")


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        path = tmp_path / "own pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    (tmp_path / "own pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "own pictures"


def predict(run: Path, folder: Path, *words: str) -> None:
    short = ["predict", *words, "--run", str(run), "--predictions.folder", str(folder), "--data.workers", "0"]
    main([*spelt_out(short), "--trainer.enable_progress_bar", "false"])


def listed(folder: Path) -> list[str]:
    """Names in ``shares.csv``."""
    with (folder / "shares.csv").open(newline="") as file:
        return [row["picture"] for row in csv.DictReader(file)]


def test_each_picture_gets_a_map_of_its_name_and_size(run, pictures, tmp_path, capsys):
    predict(run, tmp_path / "out", str(pictures), "--predictions.confidence", "true")
    segmenter = load_segmenter(run)
    for name, size in SIZES.items():
        written = (tmp_path / "out" / name).with_suffix(".png")
        with Image.open(written) as indexed:
            assert indexed.mode == "P"
            assert indexed.getpalette() == CITYSCAPES.palette.ravel().tolist()
            label = np.asarray(indexed)
        assert label.shape == size
        np.testing.assert_array_equal(label, segmenter.predict(pictures / name).numpy())
        overlay = np.asarray(Image.open((tmp_path / "out/overlays" / name).with_suffix(".jpg"))).astype(float)
        halves = (np.asarray(Image.open(pictures / name)).astype(float) + CITYSCAPES.colourise(label)) / 2
        assert overlay.shape == halves.shape
        assert np.abs(overlay - halves).mean() < 30  # JPEG of noise
        confidence = cv2.imread(str((tmp_path / "out/confidence" / name).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert confidence.shape == size
        assert confidence.min() >= 255 // len(CITYSCAPES)
    with (tmp_path / "out" / "shares.csv").open() as file:
        rows = {row.pop("picture"): row for row in csv.DictReader(file)}
    assert sorted(rows) == ["a", "sub/b c", "sub/ü"]
    assert sum(map(float, rows["a"].values())) == pytest.approx(1, abs=1e-4)
    assert "3 maps in" in capsys.readouterr().out


@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.setup")
def test_nothing_is_written_over_unless_asked(run, pictures, tmp_path, capsys):
    first = str(pictures / "a.jpg")
    predict(run, tmp_path / "out", first)
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    with pytest.raises(SystemExit):
        predict(run, tmp_path / "out", str(pictures))
    remedy = "give --overwrite, --skip_existing to continue, or another folder with --predictions.folder"
    assert f"a.png and 1 more exist already: {remedy}" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "sub").exists()
    predict(run, tmp_path / "out", str(pictures), "--overwrite")
    assert Image.open(tmp_path / "out" / "a.png").size == (60, 40)
    predict(run, tmp_path / "out", str(pictures), "--skip_existing")


@pytest.mark.remedy("callbacks/prediction_writer.py::read_map")
def test_a_file_that_is_no_map_is_not_continued_with(run, pictures, tmp_path, capsys):
    picture, path = str(pictures / "a.jpg"), tmp_path / "out" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (60, 40), "red").save(path)
    remedy = "give --overwrite instead of --skip_existing, or another folder with --predictions.folder"
    with pytest.raises(ValueError, match=f"a.png is not a map of 19 classes: {remedy}"):
        read_map(path, 19)
    Image.new("L", (60, 40), 23).save(path)
    with pytest.raises(SystemExit):
        predict(run, tmp_path / "out", picture, "--skip_existing")
    assert f"a.png is not a map of 19 classes: {remedy}" in capsys.readouterr().err
    assert (np.asarray(Image.open(path)) == 23).all()
    predict(run, tmp_path / "another", picture, "--skip_existing")
    predict(run, tmp_path / "out", picture, "--overwrite")
    assert Image.open(path).mode == "P"


def test_a_folder_that_is_a_file_is_named_before_anything_is_segmented(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_bytes(b"mine")
    for folder in ("file", "file/below"):
        with pytest.raises(SystemExit):
            predict(run, tmp_path / folder, str(pictures))
        assert f"{tmp_path}/{folder}" in capsys.readouterr().err.splitlines()[-1]
    predict(run, Path("~/out"), str(pictures / "a.jpg"))
    assert (tmp_path / "out" / "a.png").is_file()


def test_names_of_two_lines_and_with_brackets_are_kept(run, pictures, tmp_path, capsys):
    (pictures / "a.jpg").rename(pictures / "a\nb.jpg")
    (pictures / "sub" / "ü.png").write_bytes(b"no picture")
    (pictures / "sub" / "ü.png").rename(pictures / "sub" / "ü\n[red]ü.png")
    predict(run, tmp_path / "out", str(pictures))
    assert listed(tmp_path / "out") == ["a\nb", "sub/b c"]
    assert (tmp_path / "out" / "a\nb.png").is_file()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "left out" in line)
    assert "ü [red]ü.png" in line


def test_shares_are_those_of_the_pictures_that_were_given(run, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    predict(run, out, str(pictures / "a.jpg"))
    first = (out / "shares.csv").read_text().splitlines()
    with pytest.raises(SystemExit):
        predict(run, out, str(pictures / "sub"))
    assert "shares.csv and 0 more exist already: give --overwrite, --skip_existing" in capsys.readouterr().err
    assert (out / "shares.csv").read_text().splitlines() == first
    predict(run, out, str(pictures), "--skip_existing")
    assert listed(out) == ["a", "sub/b c", "sub/ü"]
    assert (out / "shares.csv").read_text().splitlines()[:2] == first


def test_a_prediction_that_was_stopped_goes_on(run, pictures, tmp_path, capsys, monkeypatch):
    step, calls = PPARModule.predict_step, iter(range(10))

    def interrupted(self, *arguments):
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    def slowly(*arguments):
        time.sleep(0.1)  # so that the first picture is being written when the signal comes
        prediction_writer.write_whole(*arguments)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(PPARModule, "predict_step", interrupted)
        patch.setattr("ppar_lightning.images.drawing.write_whole", slowly)
        with pytest.raises(SystemExit) as leaving:
            predict(run, tmp_path / "out", str(pictures))
    assert leaving.value.code == 128 + signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "ppar: SIGTERM: the same command continues with --skip_existing" in capsys.readouterr().err
    first = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert not (tmp_path / "out" / "sub").exists()
    for _ in range(2):  # the second time nothing is left to do
        predict(run, tmp_path / "out", str(pictures), "--skip_existing")
        assert listed(tmp_path / "out") == ["a", "sub/b c", "sub/ü"]
        assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == first
    predict(run, tmp_path / "once", str(pictures))
    assert (tmp_path / "once" / "shares.csv").read_text() == (tmp_path / "out" / "shares.csv").read_text()


def test_pictures_are_written_while_the_next_ones_are_segmented(run, pictures, tmp_path, monkeypatch):
    step, write, second = PPARModule.predict_step, prediction_writer.write_map, threading.Event()
    steps, held, most = [], [], []

    def counted(self, *arguments):
        steps.append(len(most))
        if len(steps) == 3:
            second.set()
        return step(self, *arguments)

    def waiting(*arguments):
        held.append(arguments)
        most.append(len(held))
        assert second.wait(60), "nothing is segmented while a picture is written"
        write(*arguments)
        held.remove(arguments)

    monkeypatch.setattr(PPARModule, "predict_step", counted)
    monkeypatch.setattr(prediction_writer, "write_map", waiting)
    monkeypatch.setattr(prediction_writer, "THREADS", 2)
    for name in ("d.jpg", "e.jpg", "f.jpg"):
        shutil.copy(pictures / "a.jpg", pictures / name)
    predict(run, tmp_path / "out", str(pictures))
    assert len(listed(tmp_path / "out")) == len(steps) == 6
    assert max(most) <= 2


def test_a_disk_that_fills_up_beside_the_segmentation_is_one_line(run, pictures, tmp_path, capsys, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device", "b c.jpg")
    draw = prediction_writer.write_picture

    def filling(path, picture):
        if path.name == "b c.jpg":
            raise full
        draw(path, picture)

    with monkeypatch.context() as patch:
        patch.setattr(prediction_writer, "write_picture", filling)
        with pytest.raises(SystemExit):
            predict(run, tmp_path / "out", str(pictures))
    assert "ppar: error: the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "sub" / "b c.png").exists()
    assert not (tmp_path / "out" / "shares.csv").exists()
    predict(run, tmp_path / "out", str(pictures), "--skip_existing")
    predict(run, tmp_path / "once", str(pictures))
    for path in (each for each in (tmp_path / "once").rglob("*") if each.is_file()):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "once")).read_bytes() == path.read_bytes()


@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.setup")
@pytest.mark.parametrize("place", ["own pictures", "own pictures/out", "."])
def test_maps_do_not_mix_with_pictures(run, pictures, tmp_path, capsys, place):
    with pytest.raises(SystemExit):
        predict(run, tmp_path / place, str(pictures), "--overwrite")
    said = capsys.readouterr().err
    assert re.search("would mix with the pictures in .*: give another folder with --predictions.folder", said)
    assert {path.name for path in pictures.rglob("*.png")} == {"b c.png", "ü.png"}
    if place == ".":
        predict(run, tmp_path / "another", str(pictures / "a.jpg"))


def test_a_checkpoint_of_another_network_is_one_line(run, pictures, tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict(run, tmp_path / "out", str(pictures), "--model.segmenter.decoder_channels", "8")
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the checkpoint does not fit the config" in said
    assert "size mismatch for segmenter.head" in said


def test_a_run_is_found_where_its_config_lies(run, pictures, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    main(["predict", "--config", "moved/config.yaml", "--data.predict_dir", str(pictures), "--data.workers", "0"])
    assert listed(tmp_path / "moved" / "predictions") == ["a", "sub/b c", "sub/ü"]
    words = ["test", "--config", str(run / "config.yaml")]
    assert spelt_out(words) == words  # it is where it was


def test_a_broken_file_is_named_and_the_rest_goes_on(run, pictures, tmp_path, capsys):
    (pictures / "sub" / "b c.png").write_bytes((pictures / "sub" / "b c.png").read_bytes()[:200])
    predict(run, tmp_path / "out", str(pictures))
    error = capsys.readouterr().err
    assert "left out:" in error
    assert "b c.png" in error
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a.png", "ü.png"]


def test_two_ranks_write_what_one_writes(run, pictures, tmp_path):
    (pictures / "broken.png").write_bytes(b"no picture")
    shutil.copy(pictures / "a.jpg", pictures / "fifth.jpg")  # so that the shares of the ranks are uneven
    predict(run, tmp_path / "one", str(pictures))
    words = ["predict", str(pictures), "--run", str(run), "--predictions.folder", str(tmp_path / "two")]
    words += ["--data.workers", "0", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    run_ranks(2, main, spelt_out(words))
    written = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(written) == 2 * (len(SIZES) + 1) + 1
    for path in written:
        assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "one" / path).read_bytes()
    assert len([path for path in (tmp_path / "two").rglob("*") if path.is_file()]) == len(written)


@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.teardown")
def test_where_nothing_can_be_done_the_status_says_so(run, pictures, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no")
    for place, message in (
        (tmp_path / "broken.png", "none of the 1 pictures could be read: the lines above say why; give others"),
        (tmp_path / "nowhere", "no pictures in"),
        (run / "curves", "no pictures in"),
    ):
        with pytest.raises(SystemExit) as left:
            predict(run, tmp_path / "out", str(place))
        assert left.value.code == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
    predict(run, tmp_path / "out", str(pictures / "a.jpg"))
    assert listed(tmp_path / "out") == ["a"]


def test_a_window_is_that_of_the_test(run, pictures, tmp_path):
    window = ["--data.window", "{size: 32, stride: 16}"]
    predict(run, tmp_path / "out", str(pictures / "sub" / "ü.png"), *window)
    whole = load_segmenter(run).predict(pictures / "sub" / "ü.png").numpy()
    slid = np.asarray(Image.open(tmp_path / "out" / "ü.png"))
    assert (slid != whole).any()


def test_files_folders_globs_and_videos_are_found_by_name(pictures, tmp_path):
    names = lambda place: [found.name() for found in find(str(place))]  # noqa: E731
    assert names(pictures) == ["a", "sub/b c", "sub/ü"]
    assert names(pictures / "sub" / "ü.png") == ["ü"]
    assert names(f"{pictures}/*/*.png") == ["sub/b c", "sub/ü"]
    assert names(f"{pictures}/**/*.jpg") == ["a"]
    video = cv2.VideoWriter(str(pictures / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    shades = (20, 120, 220)
    for shade in shades:
        video.write(np.full((48, 64, 3), shade, np.uint8))
    video.release()
    frames = PictureDataset([str(pictures / "drive.avi")])
    assert [frames.name(i) for i in range(len(frames))] == [f"drive/{i:06d}" for i in range(3)]
    assert [round(float(frames[i]["image"].mean()) / 10) for i in range(3)] == [shade // 10 for shade in shades]


def test_pictures_whose_names_differ_in_their_suffix_keep_it(pictures):
    Image.new("RGB", (4, 4)).save(pictures / "a.png")
    assert PictureDataset([str(pictures)]).names == [
        f"{pictures.name}/a.jpg",
        f"{pictures.name}/a.png",
        "sub/b c",
        "sub/ü",
    ]


@pytest.mark.remedy("data/own_pictures.py::PictureDataset.__init__")
def test_pictures_of_several_folders_keep_their_folder(pictures, tmp_path):
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        shutil.copy(pictures / "a.jpg", tmp_path / folder)
    places = [str(tmp_path / "left"), str(tmp_path / "right")]
    assert PictureDataset(places).names == ["left/a.jpg", "right/a.jpg"]
    assert PictureDataset([*places, f"{tmp_path}/left/*.jpg"]).names == ["left/a.jpg", "right/a.jpg"]
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "left", tmp_path / "other" / "left")
    with pytest.raises(ValueError, match="would both be written as left/a.jpg.png: predict one at a time"):
        PictureDataset([str(tmp_path / "left"), str(tmp_path / "other" / "left")])
    for place in (tmp_path / "left", tmp_path / "other" / "left"):
        assert PictureDataset([str(place)]).names == ["a"]


@pytest.mark.remedy("data/own_pictures.py::find")
def test_a_place_without_a_picture_is_named(pictures, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").touch()
    with pytest.raises(FileNotFoundError, match="no pictures in .*notes: give a file, folder or glob of .png, ") as e:
        find(str(tmp_path / "notes"))
    shutil.copy(pictures / "a.jpg", tmp_path / "notes")
    for suffix in re.findall(r"\.\w+", str(e.value).rpartition(" of ")[2]):
        Image.new("RGB", (4, 4)).save(tmp_path / f"notes/b{suffix}")
        for place in ("notes", "notes/*", f"notes/b{suffix}"):
            assert any(each.path.suffix == suffix for each in find(f"{tmp_path}/{place}"))


def test_hidden_files_are_passed_over_and_other_kinds_counted(pictures, capsys, caplog):
    shutil.copy(pictures / "a.jpg", pictures / "._a.jpg")
    assert len(find(str(pictures))) == 3
    assert "1 other files (.txt) are ignored" in caplog.text + capsys.readouterr().err


def test_the_frames_of_a_video_are_counted(pictures, monkeypatch):
    video = cv2.VideoWriter(str(pictures / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(4):
        video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()
    monkeypatch.setattr(cv2.VideoCapture, "get", lambda *_: pytest.fail("what a header states is not reliable"))
    assert len(find(str(pictures / "drive.avi"))) == 4


@pytest.mark.parametrize("frames", [range(12), range(1, 12, 2)])
def test_a_video_is_opened_once_and_read_on(tmp_path, monkeypatch, frames):
    path, opened = tmp_path / "drive.avi", []
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for shade in range(12):
        video.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    video.release()
    pictures, capture = PictureDataset([str(path)]), cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *given: opened.append(given) or capture(*given))
    shades = {frame: pictures[frame]["image"].mean() / 20 for frame in frames}
    assert {frame: round(shade) for frame, shade in shades.items()} == {frame: frame for frame in frames}
    assert len(opened) == 1
    assert round(pictures[3]["image"].mean() / 20) == 3  # going back opens it again
    assert len(opened) == 2


def test_one_worker_reads_the_frames_and_several_the_pictures(pictures):
    video = cv2.VideoWriter(str(pictures / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(4):
        video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()
    data = DomainDataModule({"game": Domain()}, workers=2, predict_dir=str(pictures))
    data.setup("predict")
    stills, frames = data.predict_dataloader()
    assert (stills.num_workers, frames.num_workers) == (2, 1)
    assert sorted(name for loader in (stills, frames) for batch in loader for name in batch["name"]) == [
        *("a", *(f"drive/{frame:06d}" for frame in range(4)), "sub/b c", "sub/ü"),
    ]


def test_the_frames_of_a_video_are_upright(tmp_path):
    path = tmp_path / "drive.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :32] = 255
    video.write(frame)
    video.release()
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(content)
    upright = PictureDataset([str(path)])[0]["image"]
    assert np.abs(upright.astype(int) - np.rot90(frame, -1)).mean() < 8


def test_a_damaged_frame_does_not_end_a_video(tmp_path):
    path = tmp_path / "drive.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for shade in range(12):
        video.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    video.release()
    content = bytearray(path.read_bytes())
    start = [match.end() + 4 for match in re.finditer(b"00dc", content)][4]  # of frame 3; the header names one, too
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    pictures = PictureDataset([str(path)])
    assert len(pictures) == 12
    with pytest.raises(ValueError, match="frame 3 cannot be decoded"):
        pictures[3]
    assert [round(pictures[frame]["image"].mean() / 20) for frame in (2, 4, 11)] == [2, 4, 11]


@pytest.mark.remedy("data/own_pictures.py::PictureDataset._read_frame")
def test_a_frame_that_cannot_be_decoded_is_named(pictures):
    (pictures / "cut.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="cut.mp4: frame 0 cannot be decoded; convert the video again"):
        PictureDataset([str(pictures / "cut.mp4")])[0]
    video = cv2.VideoWriter(str(pictures / "cut.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()
    assert PictureDataset([str(pictures / "cut.mp4")])[0]["image"].shape == (48, 64, 3)


def test_an_orientation_tag_turns_a_picture_upright(tmp_path):
    picture = Image.new("RGB", (60, 40))
    tag = picture.getexif()
    tag[274] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=tag)
    assert PictureDataset([str(tmp_path)])[0]["image"].shape == (60, 40, 3)


def test_the_long_form_is_left_as_it_is():
    words = ["predict", "--config", "run/config.yaml", "--data.predict_dir", "pictures/"]
    assert spelt_out(words) == words
    assert spelt_out(["fit", "--run", "x"]) == ["fit", "--run", "x"]


@pytest.mark.parametrize(
    "words",
    [
        ["it's.png", "*.jpg", "--run", "RUN", "--overwrite"],
        ["--overwrite", "it's.png", "*.jpg", "--run=RUN"],
        ["--run", "RUN", "it's.png", "*.jpg", "--overwrite"],
        ["it's.png", "--overwrite", "*.jpg", "--run", "RUN"],
    ],
)
def test_the_short_form_in_any_order(words, run):
    given = ["predict", *(word.replace("RUN", str(run)) for word in words)]
    wanted = [
        "predict",
        "--config",
        f"{run}/config.yaml",
        """--data.predict_dir=["it's.png", "*.jpg"]""",
        "--overwrite",
    ]
    assert spelt_out(given) == wanted


@pytest.mark.remedy("cli/words.py::spelt_out")
@pytest.mark.remedy("cli/words.py::long_form")
def test_the_short_form_says_what_it_lacks(run):
    with pytest.raises(ValueError, match="the run not given"):
        spelt_out(["predict", "a.png"])
    with pytest.raises(ValueError, match="pictures not given"):
        spelt_out(["predict", "--run", str(run)])
    with pytest.raises(FileNotFoundError, match="last.ckpt/config.yaml not found: --run takes the folder of a run"):
        spelt_out(["predict", "a.png", "--run", "runs/demo/checkpoints/last.ckpt"])
    long = spelt_out(["predict", "a.png", "--run", str(run), "--ckpt_path", "b.ckpt"])
    assert long[:3] == ["predict", "--config", f"{run}/config.yaml"]
    assert {'--data.predict_dir=["a.png"]', "--ckpt_path", "b.ckpt"} < {*long}


@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.__post_init__")
@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.__post_init__")
def test_options_of_the_writer_are_checked():
    with pytest.raises(ValueError, match=r"give a value in \[0, 1\]"):
        PredictionWriter(opacity=3)
    with pytest.raises(ValueError, match="give only one"):
        PredictionWriter(overwrite=True, skip_existing=True)
    for options in ({"opacity": 0}, {"opacity": 1}, {"overwrite": True}, {"skip_existing": True}):
        PredictionWriter(**options)


@pytest.mark.remedy("callbacks/prediction_writer.py::PredictionWriter.setup")
def test_a_confidence_is_never_taken_for_a_map(run, pictures, tmp_path, capsys):
    (pictures / "confidence").mkdir()
    shutil.copy(pictures / "a.jpg", pictures / "confidence" / "a.jpg")
    with pytest.raises(SystemExit):
        predict(run, tmp_path / "out", str(pictures), "--predictions.confidence", "true")
    assert "confidence/a would have the name of a confidence: predict confidence/ by itself" in capsys.readouterr().err
    predict(run, tmp_path / "out", str(pictures / "confidence"))
    assert listed(tmp_path / "out") == ["a"]
