_base_ = ['./_base_/linkencoder_seg.py', './_base_/semantickitti_seg.py', './_base_/schedule_seg_25e.py']
