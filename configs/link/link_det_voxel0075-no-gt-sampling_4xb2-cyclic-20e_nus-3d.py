# No pasted objects from the first epoch on. The officially released weights come from resuming epoch 15 of the run with
# pasted objects with this config; the config without "no-gt-sampling" does that by itself.
_base_ = './link_det_voxel0075_4xb2-cyclic-20e_nus-3d.py'

train_dataloader = dict(dataset=dict(dataset=dict(pipeline=_base_.plain_train_pipeline)))
custom_hooks = []
