from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.manifest import (
    NORMAL_LABELS,
    alike,
    learning_rows,
    read_manifest,
    scoring_rows,
    torn_groups,
    torn_recordings,
)
from pipeline.messages import Rate


def manifest(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_short_manifest_has_its_defaults(tmp_path: Path) -> None:
    (row,) = read_manifest(manifest(tmp_path, "path,label,group\na/b.wav,good,g1\n"))
    assert row.path == tmp_path / "a/b.wav"
    assert (row.name, row.label, row.group, row.machine, row.sensor) == ("a/b.wav", "good", "g1", "machine", "acoustic")
    assert (row.modality, row.rate, row.unit, row.state, row.split, row.end_s) == ("acoustic", None, "", "", "", None)


def test_a_full_manifest_is_read_in_full(tmp_path: Path) -> None:
    header = (
        "path,label,group,machine,sensor,modality,rate_hz,unit,state,start_s,end_s,split,spindle_rpm,teeth,onset_s,"
        "crop_x,crop_y,crop_w,crop_h,operator"
    )
    line = "x.npz,bad,r7,M03,acc1,vibration,25600,mg,rough,1.5,9,train,12000,2,4.25,1,2,30,40,Ann"
    (row,) = read_manifest(manifest(tmp_path, f"\ufeff{header}\r\n{line}\r\n\r\n"))
    assert (row.machine, row.sensor, row.modality, row.rate) == ("M03", "acc1", "vibration", Rate(25600))
    assert (row.unit, row.state, row.start_s, row.end_s, row.split) == ("mg", "rough", 1.5, 9.0, "train")
    assert (row.spindle_rpm, row.teeth, row.onset_s, row.crop) == (12000.0, 2, 4.25, (1, 2, 30, 40))
    assert row.extra == {"operator": "Ann"}


@pytest.mark.parametrize(
    ("text", "modality"),
    [("audio", "acoustic"), ("Sound", "acoustic"), ("stethoscope", "stethoscope"), ("image", "frames")],
)
def test_modalities_have_other_names(tmp_path: Path, text: str, modality: str) -> None:
    (row,) = read_manifest(manifest(tmp_path, f"path,label,group,modality\nx.npz,a,b,{text}\n"))
    assert row.modality == modality


@pytest.mark.parametrize(
    ("column", "text", "rate"),
    [
        ("sample_rate", "44100", Rate(44100)),
        ("rate_hz", "25600.5", Rate(51201, 2)),
        ("rate_hz", "48000/7", Rate(48000, 7)),
        ("sample_rate", "unknown", None),
    ],
)
def test_rates_are_exact_and_have_two_names(tmp_path: Path, column: str, text: str, rate: Rate | None) -> None:
    (row,) = read_manifest(manifest(tmp_path, f"path,label,group,{column}\nx.npz,a,b,{text}\n"))
    assert row.rate == rate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx,a\n", "m.csv: the column 'group' is missing; a manifest needs path,label,group"),
        ("path,label,group\n", "has no rows"),
        ("path,label,group\nx.wav,,g\n", "line 2, label = '': must not be empty"),
        ("path,label,group,rate_hz\nx.wav,a,g,fast\n", "line 2, rate_hz = 'fast': must be a number of hertz"),
        ("path,label,group,rate_hz\nx.wav,a,g,-5\n", "must be positive"),
        ("path,label,group,rate_hz\nx.wav,a,g,1e400\n", "must lie between 0.001 and 1e+08 Hz"),
        ("path,label,group,split\nx.wav,a,g,\nx.wav,a,g,dev\n", "line 3, split = 'dev': must be train"),
        ("path,label,group,modality\nx.wav,a,g,smell\n", "modality = 'smell': must be one of"),
        ("path,label,group\nx.bin,a,g\n", "cannot be told from x.bin"),
        ("path,label,group,start_s,end_s\nx.wav,a,g,3,2\n", "must lie after start_s"),
        ("path,label,group,onset_s\nx.wav,a,g,inf\n", "must be finite"),
        ("path,label,group,teeth\nx.wav,a,g,two\n", "teeth = 'two': must be a number"),
        ("path,label,group\nx.wav,a,g,,\ny, the second.wav,a,g\n", "line 3 has more cells than the header"),
        ("path,label,group,crop_x\nx.png,a,g,5\n", "needs crop_y"),
        ("path,label,group,crop_x,crop_y,crop_w,crop_h\nx.png,a,g,5,5,0,9\n", "rectangle"),
    ],
)
def test_errors_name_the_file_the_line_and_the_mend(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_manifest(manifest(tmp_path, text))
    assert message in str(error.value)
    assert "m.csv" in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"path,label,group\n\xff\xfe,a,b\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(tmp_path / "b.csv")


def test_a_split_says_who_learns_and_who_is_scored(tmp_path: Path) -> None:
    text = "path,label,group,split\n" + "".join(
        f"{s}.wav,a,g{s},{s}\n" for s in ("train", "validation", "test", "open")
    )
    rows = read_manifest(manifest(tmp_path, text))
    assert [r.name for r in learning_rows(rows)] == ["train.wav"]
    assert [r.name for r in scoring_rows(rows, {"gtest"})] == ["test.wav"]


def test_without_a_split_all_learn_and_the_groups_so_used_are_not_scored(tmp_path: Path) -> None:
    text = "path,label,group,split\n" + "".join(f"{i}.wav,a,g{i % 2},open\n" for i in range(4))
    rows = read_manifest(manifest(tmp_path, text))
    assert len(learning_rows(rows)) == 4
    assert [r.name for r in scoring_rows(rows, {"g0"})] == ["1.wav", "3.wav"]


def test_groups_in_two_splits_are_found(tmp_path: Path) -> None:
    rows = read_manifest(
        manifest(tmp_path, "path,label,group,split\n1.wav,a,g,train\n2.wav,a,g,test\n3.wav,a,h,test\n")
    )
    assert torn_groups(rows) == ["g"]


def test_what_one_sensor_learned_leaves_the_others_to_be_scored(tmp_path: Path) -> None:
    rows = read_manifest(manifest(tmp_path, "path,label,group,machine\n1.wav,a,day1,mill\n2.wav,a,day1,lathe\n"))
    assert [r.name for r in scoring_rows(rows, {("lathe", "acoustic", "day1")})] == ["1.wav"]
    assert not scoring_rows(rows, {"day1"})


def test_the_case_of_labels_does_not_matter() -> None:
    assert [x for x in ("Normal", "GOOD", "stable", "bad") if x in NORMAL_LABELS] == ["Normal", "GOOD", "stable"]


def test_the_same_seconds_in_two_groups_or_splits_are_found(tmp_path: Path) -> None:
    def told(*lines: str, head: str = "path,label,group,split,start_s,end_s,sensor", by_sensor: bool = False) -> str:
        rows = read_manifest(manifest(tmp_path, "\n".join([head, *lines]) + "\n"))
        return torn_recordings(rows, by_sensor=by_sensor)

    assert told("a.wav,x,g,train,0,5,s", "a.wav,x,g,train,3,8,s", "a.wav,x,h,test,8,9,s") == ""
    assert told("a.wav,x,g,,0,5,one", "a.wav,x,h,,0,5,two") != ""  # of sound, both hear the mean of the channels
    assert told("a.wav,x,g,,0,5,one", "a.wav,x,h,,0,5,two", by_sensor=True) == ""  # but each learns by itself
    assert told("a.wav,x,g,,0,5,one", "a.wav,x,h,,0,5,two", "a.wav,x,h,,4,6,one", by_sensor=True) != ""
    modal = "path,label,group,modality,sensor"
    assert told("a.mcap,x,g,sound,one", "a.mcap,x,h,sound,two", head=modal) == ""
    assert told("a.mcap,x,g,sound,one", "a.mcap,x,h,sound,one", head=modal) != ""
    assert told("a.wav,x,g,,0,5,s", "b.wav,x,h,,0,5,s") == ""
    assert "a.wav" in told("a.wav,x,g,,0,5,s", "./a.wav,x,h,,4.9,8,s")
    assert "train" in told("a.wav,x,g,train,,,s", "a.wav,x,g,test,100,,s")
    assert told("a.wav,x,g,,0,20,s", "a.wav,x,g,,1,2,s", "a.wav,x,h,,19,21,s") != ""


def test_the_same_seconds_under_two_labels_are_found_where_labels_are_learned(tmp_path: Path) -> None:
    lines = "path,label,group,start_s,end_s\na.wav,idle,g,0,10\na.wav,cutting,g,5,15\na.wav,idle,g,2,4\n"
    rows = read_manifest(manifest(tmp_path, lines))
    assert torn_recordings(rows) == ""
    assert "a.wav are labelled 'idle' and 'cutting'" in torn_recordings(rows, classes=True)
    assert torn_recordings([row for row in rows if row.label == "idle"], classes=True) == ""


def test_where_only_test_is_marked_the_others_teach(tmp_path: Path) -> None:
    rows = read_manifest(manifest(tmp_path, "path,label,group,split\n1.wav,a,g,\n2.wav,a,h,test\n3.wav,a,i,\n"))
    assert [r.name for r in learning_rows(rows)] == ["1.wav", "3.wav"]
    assert [r.name for r in scoring_rows(rows)] == ["2.wav"]


def test_labels_that_differ_in_case_alone_are_named() -> None:
    assert alike({"on", "off", "offline"}) == ""
    assert alike({"On", "off", "on"}) == "the labels 'On' and 'on' differ in case alone; write one of them throughout"


def test_cells_tell_every_column_whose_values_can_be_classes(tmp_path: Path) -> None:
    (row,) = read_manifest(manifest(tmp_path, "path,label,group,spindle_rpm,shift\nx.wav,a,g,12000,night\n"))
    cells = row.cells()
    assert (cells["label"], cells["spindle_rpm"], cells["teeth"], cells["shift"]) == ("a", "12000", "", "night")


def sounds(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_labelled_folder_is_a_manifest(tmp_path: Path) -> None:
    sounds(tmp_path, "idle/a.wav", "idle/b.FLAC", "cut/monday/c.wav", "cut/tuesday/c.wav", "cut/notes.txt", ".x/d.wav")
    rows = read_manifest(tmp_path)
    assert [(r.name, r.label, r.group) for r in rows] == [
        ("cut/monday/c.wav", "cut", "monday"),
        ("cut/tuesday/c.wav", "cut", "tuesday"),
        ("idle/a.wav", "idle", "idle"),
        ("idle/b.FLAC", "idle", "idle"),
    ]
    assert {(r.path, r.modality) for r in rows} == {(tmp_path / r.name, "acoustic") for r in rows}


def test_a_folder_without_labels_or_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no WAV or FLAC file"):
        read_manifest(tmp_path)
    sounds(tmp_path, "a.wav")
    with pytest.raises(ConfigError, match=r"a\.wav: lies in no folder that says what it shows"):
        read_manifest(tmp_path)


def test_a_label_behind_a_link_is_read_too(tmp_path: Path) -> None:
    """Linked from where the recordings lie; a link upwards leads nowhere, and a folder may end in .wav."""
    sounds(tmp_path, "archive/idle/a.wav", "states/cut/b.wav")
    (tmp_path / "states" / "idle").symlink_to("../archive/idle")
    (tmp_path / "states" / "cut" / "up").symlink_to("..")
    (tmp_path / "states" / "cut" / "day.wav").mkdir()
    found = [(r.name, r.label) for r in read_manifest(tmp_path / "states")]
    assert found == [("cut/b.wav", "cut"), ("idle/a.wav", "idle")]


def test_a_label_whose_sound_is_of_another_kind_is_not_passed_over(tmp_path: Path) -> None:
    sounds(tmp_path, "cut/a.wav", "cut/a.mp3", "idle/monday/b.MP3")
    with pytest.raises(ConfigError, match=r"b\.MP3: folders are read for WAV and FLAC alone, and 'idle' holds none"):
        read_manifest(tmp_path)
