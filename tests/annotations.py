"""Small annotation files of every benchmark, and their readers."""

import copy
import json

from stvgkit.datasets import SkipReport, hcstvg, vidstg, vue_stg

HC1 = {
    "bbox": [[64, 36, 128, 72], [70, 36, 128, 72], [76, 36, 128, 72]],
    "st_time": 1.0,
    "ed_time": 1.1,
    "st_frame": 31,
    "img_num": 600,
    "caption": "The woman in red turns.",
    "width": 640,
    "height": 360,
}
HC2 = {
    "bbox": HC1["bbox"],
    "st_frame": 31,
    "img_num": 500,
    "English": "The man sits down.",
    "img_size": [360, 640],
}
VID = {
    "vid": "1071",
    "fps": 30,
    "frame_count": 90,
    "width": 640,
    "height": 360,
    "used_segment": {"begin_fid": 10, "end_fid": 89},
    "temporal_gt": {"begin_fid": 30, "end_fid": 33},
    "captions": [{"description": "a child runs", "type": "person", "target_id": 2}],
    "questions": [{"description": "who runs", "type": "person", "target_id": 2}],
}
VIDOR = {
    "width": 640,
    "height": 360,
    "trajectories": [
        [
            {"tid": 1, "bbox": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}},
            {"tid": 2, "bbox": {"xmin": 64, "ymin": 36, "xmax": 320, "ymax": 360}},
        ]
    ]
    * 90,
}


def with_(record, path, value):
    """A deep copy of a record with one value replaced; `...` removes the key."""
    record = copy.deepcopy(record)
    *parents, last = path.split(".")
    place = record
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return record


def read_hc(folder, *records, **options):
    path = folder / "hc.json"
    path.write_text(json.dumps({f"{i}.mp4": record for i, record in enumerate(records)}))
    report = SkipReport()
    return list(hcstvg.read(path, None, report, **options)), report


def read_vid(folder, *records, vidor=None):
    path = folder / "vid.json"
    path.write_text(json.dumps(records))
    if vidor is not None:
        (folder / "boxes" / "1000").mkdir(parents=True, exist_ok=True)
        (folder / "boxes" / "1000" / "1071.json").write_text(json.dumps(vidor))
    report = SkipReport()
    boxes = None if vidor is None else folder / "boxes"
    return list(vidstg.read(path, None, report, boxes=boxes)), report


def write_vue(
    folder,
    query="q,a man,v\n",
    tubes="q,1000,0.1,0.1,0.5,0.5\nq,2000,0.1,0.1,0.5,0.5\n",
    video="v,30.5\n",
):
    (folder / "query.csv").write_text("query_id,query_text,video_id\n" + query)
    (folder / "tubes.csv").write_text("query_id,time_ms,x0,y0,x1,y1\n" + tubes)
    (folder / "video.csv").write_text("video_id,video_duration\n" + video)
    return folder


def read_vue(folder, **tables):
    report = SkipReport()
    return list(vue_stg.read(write_vue(folder, **tables), None, report)), report
