# See the config of the train split without pasted objects.
_base_ = './link_det_voxel0075_4xb4-cyclic-20e_nus-trainval-3d.py'

train_dataloader = dict(dataset=dict(dataset=dict(pipeline=_base_.plain_train_pipeline)))
custom_hooks = []
