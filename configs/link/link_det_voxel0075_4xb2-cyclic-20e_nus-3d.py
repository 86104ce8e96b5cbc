_base_ = ['./_base_/det_voxel0075.py', './_base_/det_schedule_20e.py', './_base_/det_nuscenes.py']
