# The key frame alone, on the schedule of sparsebev_r18_motion_toy.py.
_base_ = './sparsebev_r18_motion_toy.py'

load_from = 'work_dirs/sparsebev_r18_1-frame_toy/epoch_16.pth'
num_frames = 1
model = dict(pts_bbox_head=dict(num_frames=num_frames, num_points=16))

train_pipeline = [dict(type='LoadMultiFrameImages', num_frames=num_frames), *_base_.train_pipeline[1:]]
test_pipeline = [dict(type='LoadMultiFrameImages', num_frames=num_frames, test_mode=True), *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
