_base_ = ['./_base_/linkunet_seg.py', './_base_/nuscenes_seg.py', './_base_/schedule_seg_80e.py']

model = dict(
    data_preprocessor=dict(voxel_size=0.15),
    decode_head=dict(num_classes=17, ignore_index=16),
)
