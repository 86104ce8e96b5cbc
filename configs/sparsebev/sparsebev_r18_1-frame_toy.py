# The key frame alone: how fast things move must be guessed from how they look. As many points as with two frames.
_base_ = './sparsebev_r18_toy.py'

num_frames = 1
model = dict(pts_bbox_head=dict(num_frames=num_frames, num_points=16))

train_pipeline = [dict(type='LoadMultiFrameImages', num_frames=num_frames), *_base_.train_pipeline[1:]]
test_pipeline = [dict(type='LoadMultiFrameImages', num_frames=num_frames, test_mode=True), *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
