_base_ = ['./_base_/linkunet_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']
