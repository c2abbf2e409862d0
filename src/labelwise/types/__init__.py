"""What flows between the stages: frozen tables of NumPy arrays, checked once, when they are made.

Conventions (DESIGN section 7): boxes are float32 `xyxy` in pixels of the *original* image (as displayed, after EXIF
orientation), `0 <= x1 < x2 <= width`; IoU without "+1". Ragged data is columnar: the rows of image `i` are
`offsets[i]:offsets[i + 1]`. Images are numbered by their position in the pool. This room imports no other one.
"""

from labelwise.errors import LabelwiseError as LabelwiseError
from labelwise.types.boxes import Boxes as Boxes
from labelwise.types.boxes import Rects as Rects
from labelwise.types.clips import Clips as Clips
from labelwise.types.clips import Tracks as Tracks
from labelwise.types.columns import image_of as image_of
from labelwise.types.columns import offsets_of as offsets_of
from labelwise.types.detections import Detections as Detections
from labelwise.types.detections import ImageOutputs as ImageOutputs
from labelwise.types.detections import Views as Views
from labelwise.types.opinions import Opinions as Opinions
from labelwise.types.pool import Pool as Pool
from labelwise.types.pool import Problem as Problem
from labelwise.types.queries import BECAUSE as BECAUSE
from labelwise.types.queries import Answer as Answer
from labelwise.types.queries import Cost as Cost
from labelwise.types.queries import Place as Place
from labelwise.types.queries import Query as Query
from labelwise.types.queries import Suggestion as Suggestion
from labelwise.types.queries import Verdict as Verdict
from labelwise.types.targets import ORIGIN_LABEL as ORIGIN_LABEL
from labelwise.types.targets import ORIGIN_PSEUDO as ORIGIN_PSEUDO
from labelwise.types.targets import Labels as Labels
from labelwise.types.targets import Targets as Targets
