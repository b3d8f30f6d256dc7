// What the console draws with, and nothing else of Apache ECharts.
import { BarChart, HeatmapChart, LineChart } from "echarts/charts";
import { GridComponent, TooltipComponent, VisualMapContinuousComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([BarChart, CanvasRenderer, GridComponent, HeatmapChart, LineChart, TooltipComponent, VisualMapContinuousComponent]);
export { init };
