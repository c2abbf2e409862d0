"""Reading and writing of a project's files: JSON, text, tensors, tables, targets, detections.

Whatever is written appears in one step or not at all; whatever is read comes back exactly as it went in.
"""

from labelwise.files.falling_order import falling as falling
from labelwise.files.formats import read_json as read_json
from labelwise.files.formats import read_record as read_record
from labelwise.files.formats import read_table as read_table
from labelwise.files.formats import read_targets as read_targets
from labelwise.files.formats import read_tensors as read_tensors
from labelwise.files.formats import write_table as write_table
from labelwise.files.formats import write_targets as write_targets
from labelwise.files.formats import write_tensors as write_tensors
from labelwise.files.shards import DetectionWriter as DetectionWriter
from labelwise.files.shards import publish as publish
from labelwise.files.shards import read_detections as read_detections
from labelwise.files.shards import stream_detections as stream_detections
from labelwise.files.shards import stream_image_outputs as stream_image_outputs
from labelwise.files.shards import write_detections as write_detections
from labelwise.files.shards import write_shard as write_shard
from labelwise.files.table_files import TableFile as TableFile
from labelwise.files.table_files import writing as writing
from labelwise.types.disk import write_bytes as write_bytes
from labelwise.types.disk import write_json as write_json
from labelwise.types.disk import write_text as write_text
