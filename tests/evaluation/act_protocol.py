"""The evaluation of action tubes in plain loops, written from the text of the protocol (ACT detector, ICCV 2017)."""

import numpy as np

from mvbench_plugins.evaluation.action.linking import LinkRule

CLASSES = ('brush', 'catch', 'clap')
SIZE = (120, 160)  # height, width of all videos
KEYS = ('frame_mAP@0.5', 'video_mAP@0.2', 'video_mAP@0.5', 'video_mAP@0.75', 'video_mAP@0.5:0.95')


def plain_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    inter = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return inter / (sum(areas) - inter)


def plain_tube_iou(a: dict, b: dict) -> float:
    """Tubes as frame -> box."""
    common = a.keys() & b.keys()
    if not common:
        return 0.0
    return len(common) / len(a.keys() | b.keys()) * np.mean([plain_iou(a[frame], b[frame]) for frame in common])


def plain_nms(items, overlap, thr) -> list:
    """Items (score, thing) by falling score, without those that overlap a better one."""
    kept = []
    for item in sorted(items, key=lambda item: -item[0]):
        if all(overlap(item[1], other[1]) <= thr for other in kept):
            kept.append(item)
    return kept


def plain_link(by_frame: dict, count: int, rule: LinkRule) -> list:
    """Detections (score, box) of each frame -> tubes (score, {frame: box})."""
    growing, done = [], []
    for frame in range(1, count + 1):
        free = plain_nms(by_frame.get(frame, []), plain_iou, rule.nms_thr)[: rule.top_k]
        growing.sort(key=lambda one: -np.mean([det[1] for det in one]))
        going_on = []
        for one in growing:
            last_frame, _, last_box = one[-1]
            fitting = [det for det in free if plain_iou(det[1], last_box) >= rule.iou_thr]
            if fitting:
                best = max(fitting, key=lambda det: det[0])
                free.remove(best)
                one.append((frame, *best))
            elif frame - last_frame >= rule.max_gap:
                done.append(one)
                continue
            going_on.append(one)
        growing = going_on + [[(frame, *det)] for det in free]
    tubes = []
    for one in done + growing:
        score = np.mean([det[1] for det in one])
        if score < rule.min_score or one[-1][0] - one[0][0] + 1 < rule.min_length:
            continue
        boxes = {}
        for (start, _, before), (end, _, after) in zip(one, one[1:] + one[-1:]):
            for frame in range(start, end + 1):
                share = (frame - start) / (end - start) if end > start else 0
                boxes[frame] = tuple(x + share * (y - x) for x, y in zip(before, after))
        tubes.append((score, boxes))
    return tubes


def plain_ap(dets, truth, overlap, thr) -> float:
    """Detections (score, place, thing) against truth: place -> things."""
    left = {place: list(things) for place, things in truth.items()}
    total = sum(map(len, left.values()))
    curve, found = [(0.0, 1.0)], 0
    for number, (_, place, thing) in enumerate(sorted(dets, key=lambda det: -det[0]), start=1):
        overlaps = [overlap(thing, other) for other in left.get(place, [])]
        if overlaps and max(overlaps) >= thr:
            del left[place][int(np.argmax(overlaps))]
            found += 1
        curve.append((found / total, found / number))
    return sum((r1 - r0) * (p1 + p0) / 2 for (r0, p0), (r1, p1) in zip(curve, curve[1:]))


def reference(videos, samples, rule) -> dict[str, float]:
    height, width = SIZE
    rows = []
    for label in range(len(CLASSES)):
        tubes = {name: by_class.get(label, []) for name, (_, by_class) in videos.items()}
        if not any(tubes.values()):
            continue
        dets = []
        for one in samples:
            boxes = one['pred_instances']['bboxes'].astype(float) * [width, height, width, height]
            scores = one['pred_instances']['scores'][:, label + 1].tolist()
            place = (one['video_id'], one['timestamp'])
            dets += [(score, place, tuple(box)) for score, box in zip(scores, boxes.tolist())]
        truth = {}
        for name, annotated in tubes.items():
            for row in np.concatenate([np.zeros((0, 5)), *annotated]).tolist():
                truth.setdefault((name, int(row[0])), []).append(row[1:])
        linked = []
        for name, (count, _) in videos.items():
            by_frame = {}
            for score, place, box in dets:
                if place[0] == name:
                    by_frame.setdefault(place[1], []).append((score, box))
            kept = plain_nms(plain_link(by_frame, count, rule), plain_tube_iou, rule.tube_nms_thr)
            linked += [(score, name, boxes) for score, boxes in kept]
        annotated = {name: [{int(r[0]): r[1:] for r in one.tolist()} for one in ones] for name, ones in tubes.items()}
        thrs = [0.2, 0.5, 0.75, *np.arange(0.5, 1, 0.05)]
        video = [plain_ap(linked, annotated, plain_tube_iou, thr) for thr in thrs]
        rows.append([plain_ap(dets, truth, plain_iou, 0.5), *video[:3], np.mean(video[3:])])
    return dict(zip(KEYS, np.mean(rows, 0).tolist()))
